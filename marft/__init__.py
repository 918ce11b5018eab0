"""marft: fine-tune teams of language-model agents with multi-agent reinforcement learning."""

__version__ = "0.1.0"
