"""How far to trust whom: what each source says where which class is true, and what repeats.

``confusion`` holds the tables and their back-off, ``dependence`` the exponents by which
relatives share one voice, ``ties`` finds relatives that nobody declared, and ``hazard`` lets
old statements speak of today only as far as the ground has not changed since.
"""
