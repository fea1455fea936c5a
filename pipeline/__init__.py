"""The domain (pure) and what every stage shares: money, ids, messages, decisions, codec, topics, settings."""

import warnings

from authlib.deprecate import AuthlibDeprecationWarning

# What libraries say about themselves at import; nothing that a user of the command line could act on.
warnings.filterwarnings("ignore", message="XDG_RUNTIME_DIR is not set")
warnings.filterwarnings("ignore", category=AuthlibDeprecationWarning)
