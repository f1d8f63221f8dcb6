"""From settings to parts: who is built from what, and in which order it is given back.

The rule: this is the one place below the command line that reads settings; every part takes plain values. Each module
brings along what its one part needs: who asks what is owed does not wait for what archives.
"""
