"""What chapter 13 says of results. Its cells assert what they compute, and nbval runs them."""

from tvae_core import own

from .page import Page


def chapter_13(page: Page) -> None:
    (most,) = page.asserted(r'medians\["trained pictures"\] < #\b')
    page.says("less than three degrees**, for half of the pictures", most == 3)
    (times,) = page.asserted(r'medians\["new pictures"\] > # \* medians')
    page.says("their turns are typically wrong by more than twice as much.", times == 2)
    page.says(
        "The moments lie between the two here",
        'medians["trained pictures"] < medians["moments of the ink"] < medians["new pictures"]'
        in page.code,
    )
    trained, new = page.asserted(r'two\["(?:trained|new) pictures"\] < #')
    page.says(
        "Fewer than three quarters of the errors are smaller than two deviations, and with new pictures fewer than half.",
        (trained, new) == (0.75, 0.5),
    )
    (wrong,) = page.asserted(r"broken_errors.median\(\) > #")
    page.says("The turns are wrong by more than fifteen degrees", wrong == 15)
    page.says(
        "the deviations are far *smaller* than before",
        'broken["degrees_sd"].median() < table(new_out)["degrees_sd"].median()' in page.code,
    )
    (times,) = page.asserted(r'broken\["nll"\].min\(\) > # \*')
    page.says(
        "the lowest NLL of the broken pictures is more than twice the highest of those that were read as they should be.",
        times == 2,
    )
    page.says(
        "More than four pictures in five are put the right way up",
        *(share == 0.8 for share in page.asserted(r"right.float\(\).mean\(\) > #")),
    )
    page.says(
        "More than nine pictures in ten are in the cluster of their letter",
        *(share == 0.1 for share in page.asserted(r"len\(odd\) < # \*")),
    )
    page.says("It looks for eight such failures", len(own.training.CHANGES) == 8)
    page.says(
        "At first, $\\beta = 0$, a nat in $u$ is free, and a nat in $z$ costs eleven.",
        own.training.STRICT == 10,
    )
    (epochs,) = page.asserted(r'"--epochs", #\)')
    page.says(
        "here it would be more than three times as many.", own.training.epochs_for(540) > 3 * epochs
    )
    page.says(
        "lies far to the right, at a high NLL, and lower down, at smaller deviations.", times == 2
    )
    page.leaves(
        "68 of 100 errors would be smaller than one deviation and 95 smaller than two",
        "Two epochs on 150 pictures are too few",
        "Let $\\beta$ be the KL weight, which the first half of training raises from 0 to 1.",
        "In the second half of training $\\beta = 1$, both cost the same",
        "the KL weight, from 0 to 1 during the warm-up",
        "the report begins with the pictures of the highest NLL",
        "turn each picture by 0, 90, 180 and 270 degrees, ask the model for the NLL of all four, and take the best.",
    )


CLAIMS = {"13_your_own_images": chapter_13}
