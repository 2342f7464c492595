"""What a run asked, what an answer can be, and files of answers as rows: for all who hear.

``asked`` (questions), ``verdict`` (answers), ``content`` and ``rows`` (a file, opened), ``store``
(the folder in which answers are kept, never counted twice), ``settled`` (what they end).
"""
