"""What the book quotes from papers: figures, and the places where they stand.

The keys are those of book/references.bib. Figures are test NLLs in nats on binary MNIST, unless a
comment says otherwise.
"""

FIGURES: dict[str, dict[str, float]] = {
    # Table 1, one stochastic layer, with one draw and with five; and the epochs of its schedule.
    "burda2016iwae": {"vae": 86.76, "multi5": 86.47, "iwae5": 85.54, "epochs": 3_280},
    # Section 6, table 1, a budget of 64 draws.
    "rainforth2018tighter": {
        "IWAE": 84.52,
        "PIWAE(8, 8)": 84.46,
        "MIWAE(8, 8)": 84.97,
        "CIWAE(0.05)": 84.57,
        "the VAE": 86.21,
    },
    # Table 2: clustering accuracy in percent without inference over discrete turns.
    "nasiri2022target": {"clusters": 33.8},
    # The poster: disentanglement score.
    "detlefsen2019vitae": {"D-score": 0.884},
}
PLACES = {
    "kingma2014vae": {"eq. 3"},
    "jaderberg2015stn": {"section 3", "eq. 5", "eq. 7"},
    "burda2016iwae": {"section 5", "section 5.2", "table 1", "eq. 8", "theorem 1"},
    "rainforth2018tighter": {"theorem 1", "section 4"},
    "tucker2019dreg": {"eq. 8"},
    "nasiri2022target": {"table 2"},
}
BURDA, RAINFORTH = FIGURES["burda2016iwae"], FIGURES["rainforth2018tighter"]
TARGET, VITAE = FIGURES["nasiri2022target"], FIGURES["detlefsen2019vitae"]
# The entropy of the gray test pixels of MNIST, in nats an image: a fact about the data.
FLOOR = 45.53
