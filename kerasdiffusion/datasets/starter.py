"""The objects of the first bundled model, and what people call them.

Each line is CLDR's name, then the names that captions use: the first most often.
"""

from __future__ import annotations

_LINES = """
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
globe showing Europe-Africa: earth, globe
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
tennis: tennis ball
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


def _read() -> dict[str, tuple[str, ...]]:
    rows = (line.split(": ") for line in _LINES.strip().splitlines())
    return {name: tuple(said.split(", ")) for name, said in rows}


#: What people call the objects of `STARTER`, by CLDR's name.
SPOKEN: dict[str, tuple[str, ...]] = _read()

#: CLDR's names of the objects of the first bundled model.
STARTER: tuple[str, ...] = tuple(SPOKEN)
