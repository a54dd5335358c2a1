"""Trained models that come with tfvp, each a folder beside this file, and those that a user adds.

<name>/
    card.yml                 what it was trained on, how, and what it scores
    config.yml               its configuration
    model/best.weights.h5    weights by name (`tfvp.models.named_weights`)
    model/mean_frame.npy     a baseline of its evaluation
    clip.npy or clip.gif     a clip of its test split to try it on, where its data set's licence allows that

Such a folder can be read wherever a run can.
"""
