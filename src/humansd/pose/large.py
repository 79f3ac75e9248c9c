def is_large_coco(path):
    return False
def read_large_coco(path, reading):
    return []
