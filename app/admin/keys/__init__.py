"""Virtual keys: create, list, change, regenerate, block, delete, and who may."""
