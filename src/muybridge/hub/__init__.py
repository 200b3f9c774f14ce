"""Runs on the Hugging Face hub: sent there with a model card, and read from there.

Only what predicting needs is sent and read: tables in TOML, JSON and text, and weights as safetensors. Nothing is
pickled or unpickled, and nothing that names a recording or a folder of this machine is sent.
"""

from muybridge.hub.transfer import FILES, fetch, push

__all__ = ["FILES", "fetch", "push"]
