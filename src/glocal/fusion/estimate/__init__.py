"""What is true, and who is reliable, estimated together over the units.

``messages`` says what a source tells each unit, given its table and what others say there;
``posterior`` pools the messages and learns the tables from the pool, turn by turn
(expectation-maximisation). Its `Fit` is what everything later asks.
"""
