"""What would be seen without the cloud.

``pairs`` makes cloudy and clear pairs, ``removal`` learns, ``choice`` says which method restores
an image and how far to trust it, ``files`` reads and writes.
"""
