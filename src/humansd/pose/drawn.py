from humansd.pose.errors import PoseError
def read_drawing_bytes(data):
    raise PoseError("todo")
