"""Images, videos, cameras and streams: frames in, videos out."""
