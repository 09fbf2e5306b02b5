"""The tests of Quarterdeck; they mirror app/ file for file, and test_guards_* keep the rules of the services."""
