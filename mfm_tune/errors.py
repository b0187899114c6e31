"""The exception tree.

UserError                 one sentence, exit code 2
├── SearchSpaceError      the search-space file is wrong
├── OptionError           a command-line option is wrong
├── StorageError          the storage folder cannot be used
│   └── StorageBusyError  another driver holds it
├── NodeError             a node of the cluster lacks what trials need; one sentence for each node and thing
└── ChangedCodeError      finished trials were trained by other code
"""

from __future__ import annotations


class UserError(Exception):
    """Bad input: the message is one sentence with field, value, allowed range and remedy."""


class SearchSpaceError(UserError):
    """A search space cannot be read, or what it declares contradicts itself."""


class OptionError(UserError):
    """A command-line option has a value that cannot be used."""


class StorageError(UserError):
    """The storage folder is missing, read-only, full or of another version."""


class StorageBusyError(StorageError):
    """Another driver is running on the same storage folder."""


class NodeError(UserError):
    """Nodes of a cluster lack the storage, the code or the data: one sentence a line."""


class ChangedCodeError(UserError):
    """Finished trials carry another fingerprint of the training code."""
