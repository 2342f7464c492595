"""The command line: parse, call, print.

``main`` lists the commands, ``lazy`` imports one when it is asked for, ``shell`` is what all share
(options, progress, errors and exit codes); every other file is one command.
"""
