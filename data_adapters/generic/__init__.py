"""Common forms of no domain: JSON Lines, CSV, datasets of the Hub, class folders, COCO, VOC, YOLO."""
