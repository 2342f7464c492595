"""Pretraining: a recipe, the random choices of each step, the learner, its checkpoints and log.

``pretrain`` is the loop; ``recipe`` what it is told, ``draw`` what chance decides, ``learner``
one step, ``distil`` its teacher; ``checkpoints`` and ``metrics_log`` what it leaves.
"""
