"""Writes the passages of the suite: `python -m prefzoo.evals.suites.perplexity.make`.

Plain English prose put together from sentences of the project's own writing: five kinds of text, a place, people and
things drawn for each passage. It shows whether a model still predicts ordinary written English after training; it is
no corpus, and its bits per byte say nothing about one.
"""

from __future__ import annotations

import random
from typing import Any

from prefzoo.evals.suites.documents import write

SEED, EACH = 0, 44
NAMES = ("Miriam", "Jonas", "Edith", "Arthur", "Clara", "Felix", "Hanna", "Oskar", "Ruth", "Simon", "Vera", "Anton",
         "Greta", "Leo", "Nora", "Walter")  # fmt: skip
PLACES = ("the harbour", "the old mill", "the upper village", "the station", "the river bank", "the market square",
          "the north road", "the glass works", "the lighthouse", "the convent garden")  # fmt: skip
MONTHS = ("January", "March", "April", "June", "July", "September", "October", "November", "December")
TRADES = ("carpenter", "baker", "schoolteacher", "nurse", "gardener", "bookbinder", "clockmaker", "ferryman")
DISHES = ("leek soup", "plum dumplings", "barley bread", "a fish pie", "lentil stew", "an apple tart", "pickled beets")
THINGS = ("a brass key", "a bundle of letters", "a blue umbrella", "a cracked violin", "a map of the coast",
          "a box of seeds", "a silver watch", "a child's glove")  # fmt: skip

# Of each kind of text, the sentences of a passage in order; one wording of each is drawn.
LETTER = (
    ("Dear {a}, thank you for the parcel, which came on Tuesday with hardly a dent in it.",
     "Dear {a}, I have meant to write since {month}, and every evening something came between.",
     "Dear {a}, your letter lay on the mat when I came home from {place}, and I read it standing up."),
    ("The house is quiet now that {b} has left for the winter, and I keep hearing doors that nobody opens.",
     "{b} asks after you whenever we meet at {place}, and always ends by saying that you were right.",
     "We have had the roof mended at last, so the bucket in the corridor has lost its post."),
    ("I found {thing} at the back of the cupboard and cannot think whose it was.",
     "The {trade} came about the stove, drank two cups of coffee and went away without touching it.",
     "On Sunday we walked as far as {place}, although the wind was against us both ways."),
    ("You would hardly know the street, because the lime trees were cut and the light falls straight into the rooms.",
     "My knee is better than it was, provided that I do not ask too much of it on the stairs.",
     "I made {dish} from your recipe, with less salt, and nobody noticed that it was not yours."),
    ("Write soon, and tell me what you decided about {place}.",
     "Come in {month} if you can; the bed by the window is always made.",
     "I must stop here, since the post goes at five and the {trade} has promised to take this along."),
)  # fmt: skip
RECIPE = (
    ("For {dish} one needs patience more than skill.", "Everybody at {place} makes {dish} a little differently.",
     "My cousin {a} made {dish} only in {month}, and never wrote down how."),
    ("Chop two onions finely and let them soften in butter over a low flame, without letting them brown.",
     "Begin the evening before, so that the flour has time to take up the water.",
     "Wash everything twice, because sand hides where one looks last."),
    ("Add the rest by the spoonful and stir slowly until the spoon leaves a trail.",
     "When it starts to smell of nuts, pour in a glass of warm milk and take the pan off the heat.",
     "Cover the bowl with a cloth and leave it alone for an hour, however curious you are."),
    ("If it turns out too thick, {b} thins it with a little of the cooking water, which also saves the salt.",
     "The {trade} next door swears by a pinch of nutmeg, and I no longer argue.",
     "A heavy lid makes all the difference, and a brick on the lid makes the rest."),
    ("It tastes best on the second day, if there is any left.", "Serve it hot, with bread, and do not apologise.",
     "What remains keeps for three days in a cool place, and for one if {b} is in the house."),
)  # fmt: skip
CHRONICLE = (
    ("In {month} the water rose as far as the steps of {place}, and the ferry stayed on this side for nine days.",
     "The bridge near {place} was opened in {month} with speeches and a brass band that had practised only one march.",
     "For most of {month} no train came farther than {place}, since snow had filled the cutting."),
    ("{a}, then the only {trade} in the valley, kept a diary in which the weather takes up more room than the people.",
     "The council met three times, agreed that something had to be done, and adjourned.",
     "Older people still count the years from that time, before the flood or after it."),
    ("Bread was baked once a week and shared out by the number of heads in each household.",
     "The school moved into the barn of the {trade}, where the children learnt their tables among the hay.",
     "Most of the shops near {place} sold what they had and then closed their shutters."),
    ("What is known of it today comes from {thing} that {b} found when the attic was cleared.",
     "Nobody was hurt, which the priest put down to prayer and {b} to the new dam.",
     "The damage was estimated at the value of forty cows, a unit that everybody understood."),
    ("A stone beside the road gives the date, but the moss has eaten the year.",
     "Two summers later the wall was built that one can still walk on.",
     "Afterwards the town bought a pump, and it has hardly been needed since."),
)  # fmt: skip
HOWTO = (
    ("To mend a wooden chair, first find out which joint is loose by rocking it on a flat floor.",
     "Before you repaint a window frame, wait for three dry days in a row, which in {month} may take a while.",
     "A knife is sharpened with little pressure and much patience, whatever the {trade} may tell you."),
    ("Clear the table, put down newspaper, and lay the tools in the order in which you will need them.",
     "Clean the surface with warm water and a drop of soap, then let it dry completely.",
     "Ask somebody like {a} to hold the other end, since most accidents come from working alone."),
    ("Work from the middle to the edges, and wipe away what spills before it sets.",
     "Hold the blade at the same angle from beginning to end; a coin under its back helps to find it.",
     "Scrape out the old glue as far as you can reach, because new glue does not stick to it."),
    ("If it still wobbles, do not use more force but look for the place that you missed.",
     "Should a drop run down, leave it until it has dried and take it off with fine paper.",
     "Try it on a piece of scrap first, and on the good one only when you have stopped frowning."),
    ("Leave everything overnight, even if it looks finished.", "Put the tools away clean, and they will be ready.",
     "Done in this way, it will last until {b} sits on it."),
)  # fmt: skip
STORY = (
    ("When {a} came back to {place}, the first surprise was how low the ceilings were.",
     "It was still dark when {a} carried {thing} down to {place} and set it on the wall.",
     "{a} had worked as a {trade} for thirty years and had never once been late."),
    ("Nobody had swept the yard, and the leaves lay in the corners as if they had been put there for safe keeping.",
     "From the kitchen came the smell of {dish} and the sound of {b} arguing with the radio.",
     "A dog barked twice, thought better of it, and went back to sleep."),
    ('"You might have written," said {b}, without turning round.',
     '"It was here when we moved in," said {b}, "and it will be here when we go."',
     '"If you are looking for {thing}," said {b}, "you are the third this week."'),
    ("There was a silence in which the clock seemed to be making up its mind.",
     "Outside a cart went past towards {place}, slowly, because of the ice.",
     "The {trade} at the next table lowered the newspaper by the width of a finger."),
    ("In the end they sat down and talked about the harvest, which was safer.",
     "That evening nothing more was said, but the lamp in the hall burned until morning.",
     "Much later it turned out that both of them had been right, though not about the same thing."),
)  # fmt: skip
KINDS = {"letter": LETTER, "recipe": RECIPE, "chronicle": CHRONICLE, "how-to": HOWTO, "story": STORY}


def items() -> list[dict[str, Any]]:
    """The passages, no two alike, in drawn order."""
    draw = random.Random(SEED)
    made: dict[str, str] = {}
    for kind, sentences in KINDS.items():
        goal = len(made) + EACH
        while len(made) < goal:
            made.setdefault(_passage(sentences, draw), kind)
    rows = list(made.items())
    draw.shuffle(rows)
    return [{"id": i, "kind": kind, "text": text} for i, (text, kind) in enumerate(rows)]


def _passage(sentences: tuple[tuple[str, ...], ...], draw: random.Random) -> str:
    a, b = draw.sample(NAMES, 2)
    said = [draw.choice(wordings) for wordings in sentences]
    places, months = iter(draw.sample(PLACES, len(said))), iter(draw.sample(MONTHS, len(said)))
    dishes, things = iter(draw.sample(DISHES, len(said))), iter(draw.sample(THINGS, len(said)))
    trades = iter(draw.sample(TRADES, len(said)))
    whole = [
        text.format(
            a=a, b=b, place=next(places), month=next(months), dish=next(dishes), thing=next(things), trade=next(trades)
        )
        for text in said
    ]
    return " ".join(text[0].upper() + text[1:] for text in whole)


if __name__ == "__main__":
    write(__file__, items())
