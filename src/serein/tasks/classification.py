"""Task: one class of any label of the corpus, such as emotion or gender, by cross-entropy.

It is the default: a task whose name is no file here classifies the label of that name.
"""

from serein.tasks.heads import ClassificationConfig, ClassificationTask

Config = ClassificationConfig
Task = ClassificationTask
