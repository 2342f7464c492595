"""What a run asked, what an answer can be, and files of answers as rows: for all who hear."""
