"""The AI routes: they read a call, hand it to the gateway or the relay, and write the answer."""
