"""Which files of a folder are images and videos."""

from seg_det.data.images import IMAGE_SUFFIXES

# Those that cannot be read are among them, so that each is reported and not passed over.
PICTURES = (*IMAGE_SUFFIXES, ".jfif", ".tif", ".tiff", ".gif", ".heic", ".heif", ".avif", ".jp2", ".dng")
VIDEOS = (
    ".mp4",
    ".avi",
    ".mov",
    ".mkv",
    ".webm",
    ".m4v",
    ".mpg",
    ".mpeg",
    ".wmv",
    ".flv",
    ".3gp",
    ".mts",
    ".m2ts",
    ".ogv",
)
