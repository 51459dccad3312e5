"""Turn a configuration of TRL, LLaMA-Factory or axolotl into a recipe, and name what changes."""

from prefzoo.recipe.translate.peers import PEERS, translate
from prefzoo.recipe.translate.translation import Translation

__all__ = ["PEERS", "Translation", "translate"]
