"""The pose library: named key poses composed from leg stances, arm gestures and trunk postures.

Trunk angles are those of `posing.Pose`, degrees. Rendering mirrors poses at random and adds jitter.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from humansd.synthetic.gestures import GESTURES, STANCES
from humansd.synthetic.posing import Pose


@dataclass(frozen=True)
class Action:
    """What a person does. poses: key poses to choose from; phrases: present participles for captions; weight:
    relative frequency; support: "stand", "air", "floor", "lie" or "sit" (on a box that the stage draws)."""

    poses: tuple[Pose, ...]
    phrases: tuple[str, ...]
    weight: float = 1.0
    support: str = "stand"


def _row(stances: str, gesture: str, phrases: str, weight: float = 1.0, support: str = "stand", **trunk: Any) -> Action:
    """An action with one pose per stance name; `phrases` separated by "|"; `trunk`: angles of `Pose`, degrees."""
    poses = []
    for stance in stances.split():
        (left_leg, right_leg), (left_arm, right_arm) = STANCES[stance], GESTURES[gesture]
        pose = Pose(left_leg=left_leg, right_leg=right_leg, left_arm=left_arm, right_arm=right_arm, **trunk)
        poses.append(pose)
    return Action(tuple(poses), tuple(phrases.split("|")), weight, support)


# Common, readable postures weigh more.
ACTIONS: dict[str, Action] = {
    "stand": _row("stand relaxed apart", "hang", "standing|standing still|standing upright", 3),
    "hands_on_hips": _row("stand apart relaxed", "hips", "standing with hands on hips|posing with hands on hips", 3),
    "one_hand_on_hip": _row("relaxed crossed", "one_hip", "posing with one hand on the hip|posing", 2, lean=3),
    "arms_crossed": _row("stand apart relaxed", "crossed", "standing with crossed arms|crossing the arms", 2),
    "hands_in_pockets": _row("relaxed stand", "pockets", "standing with hands in the pockets|loitering", 1),
    "hands_behind": _row("stand", "behind", "standing with hands behind the back|waiting", 1),
    "t_pose": _row("stand apart", "tee", "holding both arms out to the sides|standing in a T-pose", 1),
    "arms_low": _row("stand apart", "tee_low", "holding the arms away from the body|spreading the arms", 1),
    "walk": _row("walk", "swing", "walking|strolling|taking a walk", 5, twist=8),
    "stride": _row("stride", "swing", "striding|walking briskly", 2, bend=4, twist=8),
    "hike": _row("step_up stride", "ski", "hiking|trekking", 1, bend=8),
    "march": _row("march", "swing", "marching|marching along", 1),
    "sneak": _row("sneak", "pounce", "sneaking|tiptoeing|creeping", 1, bend=24, nod=-12),
    "tiptoe": _row("tiptoe", "one_up", "standing on tiptoe|reaching up on tiptoe", 1, nod=-18),
    "run": _row("run run_reach", "run", "running|jogging", 4, "air", bend=12, twist=8, hop=0.05),
    "sprint": _row("sprint", "sprint", "sprinting|racing|running fast", 2, "air", bend=22, twist=8, hop=0.05),
    "skip": _row("scissor", "swing", "skipping|hopping along", 1, "air", hop=0.12),
    "jump": _row("heel_kick tuck", "vee", "jumping|leaping into the air", 3, "air", hop=0.28, nod=-8),
    "star_jump": _row("star", "vee", "doing a star jump|jumping with spread arms and legs", 2, "air", hop=0.2),
    "jump_fist": _row("scissor heel_kick", "fist_up", "jumping for joy|jumping with a raised fist", 1, "air", hop=0.25),
    "leap": _row("leap", "second", "leaping|bounding|doing a grand jete", 1, "air", hop=0.3, pitch=8),
    "hop": _row("hook", "balance", "hopping on one leg|balancing on one leg", 1),
    "front_kick": _row("front_kick", "guard", "kicking|kicking high", 2, bend=-6),
    "side_kick": _row("side_kick", "guard", "doing a side kick|kicking sideways", 1, roll=14, lean=8),
    "kick_ball": _row("ball_kick back_swing", "balance", "kicking a ball|playing football|playing soccer", 2, bend=8),
    "knee_strike": _row("knee_up", "guard", "raising a knee|doing a knee strike", 1),
    "punch": _row("box lunge", "jab", "punching|boxing|throwing a punch", 3, twist=14, bend=6),
    "hook_punch": _row("box", "hook", "throwing a hook|boxing", 1, twist=22, bend=6),
    "uppercut": _row("box", "uppercut", "throwing an uppercut|boxing", 1, twist=18),
    "fight_stance": _row("box ready", "guard", "standing in a fighting stance|guarding|sparring", 2, bend=8),
    "karate_chop": _row("lunge side_lunge", "chop", "doing karate|practising karate", 1),
    "crane": _row("knee_up", "crane", "holding a crane stance|practising kung fu", 1),
    "tai_chi": _row("side_lunge ready", "tai_chi", "practising tai chi|moving slowly in tai chi", 1),
    "dance": _row("hook wide staggered", "disco", "dancing|dancing disco", 3, lean=8, twist=8),
    "dance_free": _row("hook staggered", "wave_both", "dancing|dancing freely|partying", 2, lean=-8, tilt=8),
    "flamenco": _row("crossed staggered", "flamenco", "dancing flamenco|dancing", 1, lean=-6, twist=12),
    "waltz": _row("walk", "waltz", "dancing a waltz|waltzing", 1),
    "robot_dance": _row("stand apart", "robot", "dancing like a robot|doing the robot", 1),
    "dab": _row("apart staggered", "dab", "dabbing|doing a dab", 1, turn=-30, nod=22),
    "egyptian": _row("walk", "egypt", "dancing like an Egyptian|striking a frieze pose", 1, turn=40),
    "hip_hop": _row("crouch surf", "pounce", "dancing hip-hop|street dancing", 1, bend=18, lean=8),
    "ballet_first": _row("tiptoe", "fifth", "dancing ballet|doing ballet en pointe", 2),
    "ballet_passe": _row("passe", "fourth", "doing a pirouette|dancing ballet|spinning on one leg", 2),
    "ballet_attitude": _row("attitude", "fourth", "holding a ballet attitude|dancing ballet", 1, pitch=8),
    "arabesque": _row("arabesque", "second", "doing an arabesque|dancing ballet", 2, pitch=34, bend=-22, nod=-14),
    "plie": _row("plie", "second", "doing a plie|bending the knees in ballet", 1),
    "battement": _row("battement", "second", "raising a leg sideways|doing a grand battement", 1, lean=-8),
    "curtsy": _row("crossed", "tee_low", "curtsying|making a curtsy", 1, bend=14, nod=14),
    "yoga_tree": _row("tree", "namaste_up", "doing yoga|holding the tree pose", 2),
    "yoga_prayer": _row("tree", "pray", "balancing in a yoga pose|doing yoga", 1),
    "yoga_warrior": _row("deep_lunge", "up", "doing yoga|holding a warrior pose", 2, bend=-6),
    "yoga_warrior_two": _row("side_lunge", "tee", "doing yoga|holding the second warrior pose", 1, turn=50),
    "yoga_warrior_three": _row(
        "arabesque", "reach_both", "balancing in a warrior pose|doing yoga", 1, pitch=36, bend=6, nod=-20
    ),
    "triangle": _row("wide", "tee", "doing the triangle pose|bending sideways", 1, lean=40, roll=14),
    "stretch_up": _row("stand apart", "up", "stretching|reaching for the sky|stretching upwards", 2, bend=-5, nod=-14),
    "stretch_side": _row("apart", "side_bend", "stretching sideways|doing a side bend", 1, lean=24, tilt=8),
    "stretch_arm": _row("apart stand", "cross_stretch", "stretching an arm|warming up", 1),
    "touch_toes": _row("stand", "toes", "touching the toes|bending forward", 1, pitch=30, bend=70, nod=20),
    "bow": _row("stand", "hang", "bowing|taking a bow", 1, pitch=12, bend=38, nod=18),
    "bow_hands": _row("stand", "pray", "bowing with folded hands|greeting with a bow", 1, bend=26, nod=14),
    "wave": _row("stand relaxed", "wave", "waving|waving hello|greeting", 4, tilt=4),
    "wave_high": _row("relaxed apart", "wave_high", "waving|waving goodbye", 2),
    "wave_both": _row("apart stand", "wave_both", "waving with both hands|waving both arms", 1),
    "salute": _row("stand", "salute", "saluting|giving a salute", 1),
    "point": _row("stand staggered", "point", "pointing|pointing ahead", 2),
    "point_side": _row("apart relaxed", "point_side", "pointing to the side|showing the way", 2, turn=-38),
    "point_up": _row("relaxed apart", "point_up", "pointing up|pointing at the sky", 1, nod=-18),
    "stop": _row("staggered stand", "stop", "holding up a hand to stop|signalling to stop", 1),
    "reach": _row("lunge staggered", "reach", "reaching out|reaching forward", 1, bend=14),
    "cheer": _row("apart wide", "fists_up", "cheering|celebrating", 3, nod=-10),
    "raise_arms": _row("apart stand", "vee", "raising both arms|throwing the arms up", 2),
    "raise_arm": _row("stand relaxed", "one_up", "raising one arm|raising a hand", 2),
    "raise_fist": _row("apart staggered", "fist_up", "raising a fist|shouting with a raised fist", 1),
    "surrender": _row("stand apart", "goal", "holding up both hands|surrendering", 1),
    "flex": _row("apart wide", "flex", "flexing the biceps|showing off muscles", 1),
    "clap": _row("stand relaxed", "clap", "clapping|applauding", 2),
    "pray": _row("stand", "pray", "praying|standing in prayer", 1, nod=16),
    "shrug": _row("stand relaxed", "shrug", "shrugging|shrugging the shoulders", 1, tilt=10),
    "open_arms": _row("apart stand", "open", "opening the arms|welcoming someone", 2),
    "hug": _row("staggered", "hug", "offering a hug|holding out both arms", 1, bend=8),
    "think": _row("relaxed stand", "chin", "thinking|resting the chin on a hand|pondering", 2, nod=10),
    "phone": _row("relaxed walk", "phone", "talking on the phone|making a phone call", 2, tilt=-8),
    "text": _row("relaxed stand", "text", "looking at a phone|typing on a phone", 2, nod=26),
    "photograph": _row("staggered apart", "photo", "taking a photo|photographing", 1),
    "selfie": _row("relaxed", "selfie", "taking a selfie|holding out a phone", 1, tilt=8),
    "look_far": _row("staggered apart", "binoculars", "looking through binoculars|watching with binoculars", 1),
    "read": _row("relaxed stand", "read", "reading|reading a book", 2, nod=24),
    "drink": _row("relaxed stand", "drink", "drinking|having a drink", 1, nod=-8),
    "eat": _row("stand", "eat", "eating|having a snack", 1),
    "paint": _row("staggered relaxed", "paint", "painting|painting at an easel", 1),
    "hands_on_head": _row(
        "apart stand", "head_hands", "holding the hands behind the head|relaxing with hands on head", 1
    ),
    "cover_ears": _row("stand", "ears", "covering the ears|blocking out noise", 1, nod=10),
    "cover_face": _row("stand", "face", "hiding the face in the hands|crying", 1, nod=24),
    "facepalm": _row("relaxed", "facepalm", "covering the face with a hand|facepalming", 1, nod=22),
    "carry": _row("stand walk", "carry", "carrying something|carrying a load", 1, bend=-4),
    "carry_low": _row("walk stand", "carry_low", "carrying bags|lugging something heavy", 1, bend=6),
    "carry_shoulder": _row("walk relaxed", "shoulder_load", "carrying something on the shoulder|shouldering a load", 1),
    "lift_overhead": _row("apart staggered", "overhead", "lifting something overhead|holding something overhead", 1),
    "push": _row("lunge stride", "push", "pushing|pushing hard", 1, bend=24, pitch=6),
    "pull": _row("side_lunge ready", "pull", "pulling|pulling a rope", 1, bend=-12, pitch=-6),
    "sweep": _row("staggered", "sweep", "sweeping|sweeping the floor", 1, bend=18, nod=18),
    "dig": _row("staggered lunge", "dig_soil", "digging|shovelling", 1, bend=34, nod=14),
    "hammer": _row("staggered apart", "hammer", "hammering|swinging a hammer", 1, bend=8),
    "guitar": _row("apart relaxed", "guitar", "playing the guitar|strumming a guitar", 2, nod=12),
    "violin": _row("stand staggered", "violin", "playing the violin|fiddling", 1, tilt=14, turn=22),
    "flute": _row("relaxed stand", "flute", "playing the flute|making music on a flute", 1, turn=-12),
    "trumpet": _row("apart", "trumpet", "playing the trumpet|blowing a trumpet", 1, bend=-8, nod=-6),
    "drum": _row("apart", "drum", "drumming|playing the drums", 1, bend=8, nod=12),
    "conduct": _row("apart stand", "conduct", "conducting|conducting an orchestra", 1),
    "sing": _row("apart relaxed", "sing", "singing|singing into a microphone", 2, nod=-8),
    "throw": _row("lunge staggered", "throw", "throwing|throwing a ball", 2, twist=-20),
    "pitch": _row("lunge", "pitch", "pitching a ball|throwing a ball hard", 1, bend=28, twist=18),
    "bowl": _row("deep_lunge", "bowl", "bowling|rolling a ball", 1, bend=34, nod=-22),
    "javelin": _row("stride", "javelin", "throwing a javelin|aiming a spear", 1, twist=-24, bend=-8),
    "bat": _row("ready apart", "bat", "batting|swinging a bat|playing baseball", 1, twist=-24, bend=10),
    "golf": _row("apart", "golf", "playing golf|swinging a golf club", 1, twist=-30, bend=8),
    "putt": _row("ready", "putt", "putting a golf ball|playing golf", 1, bend=32, nod=20),
    "tennis_serve": _row("staggered", "serve", "serving in tennis|playing tennis", 2, bend=-10, nod=-24),
    "forehand": _row("side_lunge staggered", "forehand", "playing tennis|hitting a forehand", 1, twist=-18, bend=12),
    "basketball": _row("tiptoe heel_kick", "shoot", "shooting a basketball|playing basketball", 2, nod=-12, hop=0.0),
    "dribble": _row("ready staggered", "dribble", "dribbling a ball|playing basketball", 1, bend=20),
    "volley_block": _row("straight", "block", "blocking at the net|playing volleyball", 1, "air", hop=0.3),
    "volley_dig": _row("crouch ready", "dig", "digging a volleyball|playing volleyball", 1, bend=22, nod=-22),
    "archery": _row("apart", "archer", "shooting a bow|doing archery|drawing a bow", 2, turn=58),
    "fence": _row("lunge deep_lunge", "fence", "fencing|lunging with a foil", 1),
    "ski": _row("crouch", "ski", "skiing|going downhill on skis", 1, bend=26, nod=-20),
    "surf": _row("surf", "surf", "surfing|riding a wave", 2, bend=14),
    "skateboard": _row("surf", "balance", "skateboarding|balancing on a board", 1, bend=16, turn=30),
    "skate": _row("lunge", "sprint", "skating|speed skating", 1, bend=36, nod=-22),
    "deadlift": _row("ready", "dead_lift", "lifting a weight|doing a deadlift", 1, bend=38, nod=-14),
    "curl": _row("apart stand", "curl", "lifting dumbbells|doing biceps curls", 1),
    "press": _row("wide staggered", "press", "pressing a barbell overhead|lifting weights", 1),
    "front_squat": _row("crouch", "rack", "squatting with a weight|doing squats", 1, bend=14),
    "squat": _row("crouch squat", "reach_both", "squatting|doing squats", 1, bend=28, nod=-16),
    "crouch": _row("squat", "knees", "crouching|squatting down", 1, bend=34, nod=-20),
    "lunge": _row("lunge deep_lunge", "hips", "lunging|doing lunges", 2),
    "side_lunge": _row("side_lunge", "clap", "doing a side lunge|lunging sideways", 1, bend=14),
    "climb": _row("climb", "climb", "climbing|climbing up", 2, "air", nod=-20, hop=0.25),
    "hang": _row("straight one_bent", "hang_up", "hanging by the hands|hanging from a bar", 1, "air", hop=0.35),
    "step_up": _row("step_up", "swing", "stepping up|climbing stairs", 1, bend=8),
    "stumble": _row("stride", "balance", "stumbling|losing balance", 1, bend=26, lean=14),
    "balance": _row("hook attitude", "balance", "balancing|balancing with spread arms", 1, lean=6),
    "kneel": _row("kneel", "hang", "kneeling|kneeling on the floor", 1, "floor"),
    "kneel_pray": _row("kneel kneel_low", "pray", "kneeling in prayer|praying on the knees", 1, "floor", nod=16),
    "kneel_one": _row("kneel_one", "knees", "kneeling on one knee|resting on one knee", 2, "floor"),
    "propose": _row(
        "kneel_one", "reach_both", "proposing on one knee|offering something on one knee", 1, "floor", nod=-14
    ),
    "kneel_low": _row("kneel_low", "rest_thigh", "sitting on the heels|kneeling in seiza", 1, "floor"),
    "sit": _row("sit sit_crossed sit_forward", "rest_thigh", "sitting|sitting down|being seated", 4, "sit"),
    "sit_crossed_arms": _row("sit_crossed sit", "crossed", "sitting with crossed arms|waiting on a seat", 1, "sit"),
    "sit_think": _row("sit sit_crossed", "chin", "sitting and thinking|pondering on a seat", 1, "sit", bend=18, nod=12),
    "sit_read": _row("sit sit_crossed", "read", "sitting and reading|reading on a seat", 2, "sit", nod=24),
    "sit_wave": _row("sit sit_forward", "wave", "waving from a seat|sitting and waving", 1, "sit"),
    "sit_piano": _row("sit", "piano", "playing the piano|playing keyboard", 2, "sit", bend=6, nod=12),
    "sit_drum": _row("sit", "drum", "sitting and drumming|playing a drum kit", 1, "sit", bend=6),
    "sit_cello": _row("sit_wide", "cello", "playing the cello|bowing a cello", 1, "sit"),
    "sit_guitar": _row(
        "sit sit_crossed", "guitar", "sitting and playing the guitar|strumming on a seat", 1, "sit", nod=12
    ),
    "sit_write": _row("sit", "write", "writing|sitting and writing", 1, "sit", bend=16, nod=18),
    "sit_phone": _row("sit_crossed sit", "phone", "sitting and talking on the phone|phoning on a seat", 1, "sit"),
    "sit_stretch": _row("sit", "up", "stretching on a seat|sitting with raised arms", 1, "sit"),
    "row": _row("floor_bent", "row", "rowing|pulling the oars", 1, "floor", bend=14),
    "floor_sit": _row(
        "floor_long floor_bent", "lean_back", "sitting on the floor|lounging on the ground", 1, "floor", pitch=-20
    ),
    "hug_knees": _row(
        "floor_bent", "hug_knees", "sitting and hugging a knee|resting on the ground", 1, "floor", bend=18
    ),
    "meditate": _row("floor_crossed", "rest_thigh", "meditating|sitting cross-legged", 2, "floor"),
    "meditate_pray": _row(
        "floor_crossed", "pray", "meditating with folded hands|sitting cross-legged in prayer", 1, "floor"
    ),
    "lie_back": _row("straight one_bent", "hang", "lying down|lying on the back", 1, "lie", pitch=-88, nod=8),
    "lie_relaxed": _row("one_bent", "head_hands", "lying relaxed|sunbathing", 1, "lie", pitch=-87, nod=14),
    "lie_spread": _row("apart", "tee_low", "lying with spread arms|lying on the ground", 1, "lie", pitch=-88),
    "lie_front": _row("straight", "pillow", "lying face down|lying on the belly", 0.5, "lie", pitch=88, turn=40),
    "plank": _row("straight", "plank", "doing push-ups|holding a plank", 1, "floor", pitch=72, nod=-24),
    "downward_dog": _row("fold", "up", "doing the downward dog|stretching in a yoga pose", 0.5, "floor", pitch=118),
    "handstand": _row(
        "straight one_bent", "hang_up", "doing a handstand|standing on the hands", 0.5, "floor", pitch=176, nod=-18
    ),
    "cartwheel": _row("wide", "vee", "turning a cartwheel|doing a cartwheel", 0.5, "floor", roll=176),
}
