"""The commands, one file each, and what they share; the only package that imports Hydra.

A command line passes through these files in order: ``console`` (the program ``seg-det``) or ``train.py`` and the like call
``entry``, which has ``recognising`` find the data set in ``dataset.root`` and ``quoting`` put paths into quotes; ``composing``
lets Hydra read the words, and ``running`` calls the command's ``main``. ``error_sentences`` says what went wrong.

What commands read of the configuration: ``schemas`` (types), ``settings`` (single keys), ``network`` (the model to be trained),
``models`` (a trained one), ``labelled_data`` (images and labels), ``saved_config`` (that of an earlier run), ``anchor_files``.
``folders`` makes the folders of runs, ``sweep`` the table of several.
"""
