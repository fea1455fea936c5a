"""The provider simulator, seen through the official SDK and its own control API."""
