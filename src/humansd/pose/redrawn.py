def refine(xy, seen, label, radius):
    return xy
