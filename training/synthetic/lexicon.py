"""The words of witnesses: synonyms for what people wear, and how they misspell them."""

from training.synthetic.person import (
    Age,
    BagKind,
    Build,
    CoatKind,
    EyewearKind,
    Gender,
    HairStyle,
    HatKind,
    HeldKind,
    Length,
    LowerKind,
    ShoeKind,
    Sleeve,
    UpperKind,
)

Words = tuple[str, ...]

PEOPLE: dict[tuple[Gender, Age], Words] = {
    ("man", "child"): ("boy", "boy", "little boy", "young boy", "male child"),
    ("man", "young"): ("man", "man", "young man", "young man", "guy", "male", "teenage boy"),
    ("man", "adult"): ("man", "man", "man", "male", "guy", "gentleman"),
    ("man", "old"): ("man", "old man", "elderly man", "older man", "gentleman"),
    ("woman", "child"): ("girl", "girl", "little girl", "young girl", "female child"),
    ("woman", "young"): (
        "woman",
        "woman",
        "young woman",
        "girl",
        "young lady",
        "female",
        "teenage girl",
    ),
    ("woman", "adult"): ("woman", "woman", "woman", "lady", "female"),
    ("woman", "old"): ("woman", "old woman", "elderly lady", "older woman", "lady"),
}
BUILDS: dict[Build, Words] = {
    "slim": ("slim", "thin", "skinny", "slender"),
    "medium": (),
    "heavy": ("heavy", "stout", "heavyset", "chubby"),
}
HAIR_STYLES: dict[HairStyle, Words] = {
    "bald": ("bald",),
    "short": ("short",),
    "curly": ("curly", "curly", "frizzy"),
    "bob": ("chin-length", "medium-length"),
    "long": ("long",),
    "ponytail": ("ponytail", "ponytail", "pony tail"),
    "bun": ("bun",),
}
UPPERS: dict[UpperKind, Words] = {
    "t-shirt": ("t-shirt", "t-shirt", "tee", "top", "shirt"),
    "shirt": ("shirt", "shirt", "button-up shirt", "dress shirt", "collared shirt"),
    "polo shirt": ("polo shirt", "polo", "shirt"),
    "blouse": ("blouse", "blouse", "top"),
    "sweater": ("sweater", "sweater", "pullover", "jumper", "knitted sweater"),
    "hoodie": ("hoodie", "hoodie", "sweatshirt", "hooded sweater", "hooded top"),
    "tank top": ("tank top", "tank top", "vest", "sleeveless top"),
    "dress": ("dress", "dress", "dress", "gown"),
}
COATS: dict[CoatKind, Words] = {
    "jacket": ("jacket", "jacket", "windbreaker"),
    "coat": ("coat", "coat", "overcoat", "trench coat"),
    "blazer": ("blazer", "blazer", "suit jacket"),
    "cardigan": ("cardigan", "cardigan", "open sweater"),
    "down jacket": ("down jacket", "puffer jacket", "padded jacket", "quilted jacket"),
}
LOWERS: dict[LowerKind, Words] = {
    "jeans": ("jeans", "jeans", "jeans", "denim pants", "denims"),
    "trousers": ("trousers", "pants", "pants", "slacks", "chinos"),
    "shorts": ("shorts", "shorts", "short pants", "bermuda shorts"),
    "leggings": ("leggings", "leggings", "tights", "tight pants"),
    "skirt": ("skirt",),
}
SLEEVES: dict[Sleeve, Words] = {
    "none": ("sleeveless",),
    "short": ("short-sleeved", "short sleeve", "short sleeved"),
    "long": ("long-sleeved", "long sleeve", "long sleeved"),
}
LENGTHS: dict[Length, Words] = {
    "short": ("short", "short", "mini"),
    "knee": ("knee-length", "knee-length", "knee length"),
    "ankle": ("long", "ankle-length", "ankle length", "full-length"),
}
SHOES: dict[ShoeKind, Words] = {
    "sneakers": (
        "sneakers",
        "sneakers",
        "trainers",
        "running shoes",
        "shoes",
        "tennis shoes",
        "sports shoes",
        "canvas shoes",
    ),
    "shoes": ("shoes", "shoes", "leather shoes", "loafers", "low shoes"),
    "boots": ("boots", "boots", "ankle boots"),
    "sandals": ("sandals", "sandals", "open shoes"),
}
BAGS: dict[BagKind, Words] = {
    "backpack": ("backpack", "backpack", "backpack", "rucksack", "bag", "school bag", "knapsack"),
    "shoulder bag": (
        "shoulder bag",
        "messenger bag",
        "crossbody bag",
        "bag",
        "satchel",
        "sling bag",
    ),
    "handbag": ("handbag", "handbag", "purse", "bag", "hand bag"),
    "suitcase": ("suitcase", "suitcase", "rolling suitcase", "trolley", "luggage case"),
}
HATS: dict[HatKind, Words] = {
    "cap": ("cap", "cap", "baseball cap", "hat"),
    "beanie": ("beanie", "beanie", "knit hat", "woolly hat", "winter hat", "bobble hat"),
    "sun hat": ("sun hat", "sun hat", "brimmed hat", "hat", "wide hat"),
}
EYEWEAR: dict[EyewearKind, Words] = {
    "glasses": ("glasses", "glasses", "spectacles", "eyeglasses"),
    "sunglasses": ("sunglasses", "sunglasses", "dark glasses", "shades"),
}
HELD: dict[HeldKind, Words] = {
    "phone": ("phone", "cell phone", "mobile phone", "smartphone"),
    "umbrella": ("umbrella", "umbrella", "open umbrella", "parasol"),
    "bottle": ("bottle", "water bottle", "plastic bottle", "drink"),
    "book": ("book", "book", "notebook"),
    "shopping bag": ("shopping bag", "shopping bag", "paper bag", "carrier bag", "tote bag"),
    "cup": ("cup", "coffee cup", "paper cup", "mug", "takeaway cup"),
}
MISSPELT = {
    "wearing": "wearign", "carrying": "carring", "backpack": "backpak", "trousers": "trowsers",
    "white": "wite", "black": "balck", "yellow": "yelow", "purple": "purpel", "sleeved": "sleaved",
    "striped": "stripped", "jacket": "jaket", "sweater": "sweter", "sneakers": "snekers",
    "glasses": "glases", "umbrella": "umbrela", "shoulder": "sholder", "with": "wiht",
    "woman": "women", "handbag": "hangbag", "brown": "borwn", "orange": "ornage",
    "hair": "hiar", "shirt": "shrit", "pants": "pans", "leggings": "legings",
}  # fmt: skip
