"""muybridge: recognise actions by their motion, in video and in skeletons."""

__version__ = "0.1.0"
