"""What people call the objects: the starter's, and the rest of the table.

Each line is CLDR's name, then the names that captions use: the first most often. What
is not here is called by CLDR's name.
"""

from __future__ import annotations

import functools

_STARTER = """
red apple: red apple, apple
green apple: green apple
banana: banana
tangerine: orange, tangerine
lemon: lemon
watermelon: watermelon, slice of watermelon
grapes: grapes, bunch of grapes
strawberry: strawberry
cherries: cherries
peach: peach
pineapple: pineapple
kiwi fruit: kiwi, kiwi fruit
tomato: tomato
avocado: avocado
carrot: carrot
ear of corn: corn, ear of corn
broccoli: broccoli
mushroom: mushroom
bread: bread, loaf of bread
croissant: croissant
cheese wedge: cheese, cheese wedge
pizza: pizza, slice of pizza
hamburger: hamburger, burger
hot dog: hot dog
french fries: french fries, fries
taco: taco
popcorn: popcorn
cooking: fried egg, egg
doughnut: doughnut, donut
cookie: cookie
birthday cake: birthday cake, cake
cupcake: cupcake
lollipop: lollipop
soft ice cream: ice cream, ice cream cone
hot beverage: cup of coffee, coffee
beer mug: beer, beer mug
wine glass: glass of wine, wine glass
dog face: dog, dog face
cat face: cat, cat face
mouse face: mouse, mouse face
rabbit face: rabbit, bunny
fox: fox
bear: bear
panda: panda
koala: koala
tiger face: tiger, tiger face
lion: lion
cow face: cow, cow face
pig face: pig, pig face
frog: frog
monkey face: monkey, monkey face
chicken: chicken
penguin: penguin
owl: owl
duck: duck
butterfly: butterfly
honeybee: bee, honeybee
lady beetle: ladybug, ladybird
turtle: turtle
snake: snake
octopus: octopus
crab: crab
fish: fish
dolphin: dolphin
spouting whale: whale
unicorn: unicorn
elephant: elephant
horse: horse
snail: snail
deciduous tree: tree, green tree
evergreen tree: pine tree, evergreen tree
palm tree: palm tree
cactus: cactus
sunflower: sunflower
rose: rose
tulip: tulip
maple leaf: maple leaf
four leaf clover: four leaf clover, clover
sun: sun
crescent moon: moon, crescent moon
cloud: cloud
rainbow: rainbow
high voltage: lightning bolt, lightning
snowflake: snowflake
snowman without snow: snowman
fire: fire, flame
water wave: wave
globe showing Europe-Africa: globe, earth
volcano: volcano
automobile: car, red car
taxi: taxi, yellow taxi
bus: bus
police car: police car
ambulance: ambulance
fire engine: fire truck, fire engine
tractor: tractor
bicycle: bicycle, bike
locomotive: train, steam train
airplane: airplane, plane
helicopter: helicopter
rocket: rocket
sailboat: sailboat, boat
ship: ship
flying saucer: flying saucer, ufo
house: house
castle: castle
umbrella: umbrella
balloon: balloon, red balloon
wrapped gift: gift, present
key: key
locked: lock, padlock
light bulb: light bulb
camera: camera
mobile phone: mobile phone, phone
laptop: laptop, computer
television: television, tv
alarm clock: alarm clock, clock
bell: bell
guitar: guitar
trumpet: trumpet
drum: drum
soccer ball: soccer ball, football
basketball: basketball
tennis: tennis racket, tennis ball
trophy: trophy
crown: crown
gem stone: gem, gem stone
top hat: top hat, hat
glasses: glasses
running shoe: shoe, running shoe
t-shirt: t-shirt, shirt
pencil: pencil
open book: book, open book
scissors: scissors
hammer: hammer
chair: chair
anchor: anchor
bomb: bomb
magnet: magnet
grinning face: smiley, grinning face
crying face: crying face, sad face
enraged face: angry face
smiling face with sunglasses: smiling face with sunglasses, cool face
skull: skull
ghost: ghost
alien: alien
robot: robot
jack-o-lantern: pumpkin, jack-o-lantern
clown face: clown, clown face
"""

_OTHERS = """
rolling on the floor laughing: face rolling on the floor laughing
star-struck: star-struck face
collision: explosion, collision
dizzy: dizzy star
dashing away: puff of wind
ZZZ: sleep symbol
backhand index pointing left: hand pointing left
backhand index pointing right: hand pointing right
backhand index pointing up: hand pointing up
backhand index pointing down: hand pointing down
index pointing up: finger pointing up
index pointing at the viewer: finger pointing at the viewer
palms up together: upturned palms
flexed biceps: flexed biceps, strong arm
nail polish: bottle of nail polish, nail polish
person: blond hair: blond person, person with blond hair
person: beard: bearded person, person with a beard
breast-feeding: woman breast-feeding a baby
mx claus: Mx Claus
horse racing: jockey, jockey on a horse
person taking bath: person taking a bath
bust in silhouette: silhouette of a person
busts in silhouette: silhouettes of people
baguette bread: baguette
bacon: bacon, strip of bacon
poultry leg: chicken leg, drumstick
hot pepper: chili pepper, hot pepper
eggplant: eggplant, aubergine
stuffed flatbread: stuffed flatbread, wrap
cooked rice: bowl of rice, cooked rice
canned food: can of food
oden: skewer of oden
sake: bottle of sake
mate: cup of mate
pouring liquid: cup of pouring liquid
bottle with popping cork: bottle of champagne, champagne
wood: stack of wood, wood
mount fuji: Mount Fuji
Tokyo tower: Tokyo Tower
camping: campsite
foggy: foggy bridge
wedding: wedding chapel
construction: construction barrier
sport utility vehicle: suv, sport utility vehicle
person mountain biking: mountain biker
motorcycle: motorcycle, motorbike
delivery truck: delivery truck, truck, lorry
racing car: race car, racing car
oncoming automobile: oncoming car
airplane departure: airplane taking off
airplane arrival: landing airplane
police car light: siren, police car light
fuel pump: gas pump, petrol pump
hourglass done: hourglass
hourglass not done: running hourglass
bullseye: target, dartboard
ping pong: ping pong paddle
badminton: badminton racket
bowling: bowling ball
cricket game: cricket bat
field hockey: field hockey stick
ice hockey: ice hockey stick
lacrosse: lacrosse stick
flag in hole: golf hole
pool 8 ball: billiard ball, pool ball
game die: die, game die
spade suit: spade, spade suit
heart suit: heart suit
diamond suit: diamond suit
club suit: club, club suit
joker: joker card, joker
mahjong red dragon: mahjong tile
performing arts: theater masks, theatre masks
piñata: piñata, pinata
woman’s clothes: blouse
thong sandal: flip-flop, thong sandal
high-heeled shoe: high heel, high-heeled shoe
headphone: headphones
speaker low volume: speaker with low volume
speaker medium volume: speaker with medium volume
speaker high volume: speaker with high volume
videocassette: video cassette
magnifying glass tilted left: magnifying glass
magnifying glass tilted right: right-tilted magnifying glass
chart increasing: rising chart
chart decreasing: falling chart
chart increasing with yen: rising chart with yen
page facing up: page, sheet of paper
memo: memo, note
wastebasket: wastebasket, trash can
unlocked: open lock, open padlock
locked with pen: lock with pen
locked with key: lock with key
pick: pickaxe
link: chain link
dna: dna helix, dna
roll of paper: roll of toilet paper, toilet paper
moai: moai, stone head
"""


def _read(lines: str) -> dict[str, tuple[str, ...]]:
    rows = (line.rpartition(": ") for line in lines.strip().splitlines())
    return {name: tuple(said.split(", ")) for name, _, said in rows}


#: CLDR's names of the objects of the recipe "starter".
STARTER: tuple[str, ...] = tuple(_read(_STARTER))
_SPOKEN = _read(_STARTER + _OTHERS)
_SHAPE_WORDS = {
    "circle": ("circle", "circle", "disc", "dot"),
    "diamond": ("diamond", "rhombus"),
    "cross": ("cross", "plus"),
}


def _described(name: str) -> str:
    """A name of the table as one would say it: "person: beard" has a colon."""
    who, colon, what = name.replace("’", "'").partition(": ")
    if not colon:
        return who
    return f"{what} {who}" if what == "bald" else f"{who} with {what}"


@functools.lru_cache(maxsize=8)
def _own_names(objects: tuple[str, ...]) -> frozenset[str]:
    return frozenset(objects)


@functools.lru_cache(maxsize=8192)
def spoken_names(name: str, kind: str, objects: tuple[str, ...]) -> tuple[str, ...]:
    """What an object may be called.

    A name that is also another object's own is left to that one: "dog" is the dog's
    where the dog and the dog face are both there.

    Args:
        name: CLDR's name, or a shape's.
        kind: `"emoji"` or `"shape"`.
        objects: CLDR's names of all the objects that must be told apart.

    Returns:
        One name or more, the usual one first.

    Example:

    >>> spoken_names("dog face", "emoji", STARTER)
    ('dog', 'dog face')
    >>> spoken_names("dog face", "emoji", ("dog", "dog face"))
    ('dog face',)
    """
    if kind == "shape":
        return _SHAPE_WORDS.get(name, (name,))
    own = _described(name)
    taken = _own_names(objects)
    spoken = _SPOKEN.get(name, (own,))
    return tuple(n for n in spoken if n == name or n not in taken) or (own,)
