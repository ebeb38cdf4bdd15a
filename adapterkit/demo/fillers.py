"""What fills the slots, and what people say around a request.

Each slot has fillers that every part uses and fillers that only the test uses. Some names are a person in one sentence
and a place in another ("Florence"), so that a tagger has to read the sentence. A message and an aside talk about the
other intents' things.
"""

from __future__ import annotations

SHARED: dict[str, tuple[str, ...]] = {
    "time": (
        "7", "7:30", "six", "half past six", "noon", "8 am", "quarter to nine", "9:15", "5 pm", "ten o'clock",
        "10 in the morning", "3", "eight tonight", "4:45", "seven sharp",
    ),
    "date": (
        "tomorrow", "today", "on Monday", "on Friday", "this weekend", "tonight", "next Tuesday", "on the 3rd of May",
        "tomorrow morning", "on Sunday evening", "on June 12", "next week",
    ),
    "place": (
        "London", "Paris", "Austin", "Florence", "Berlin", "New York", "Jordan", "Leeds", "the old town", "Oslo",
        "San Diego", "Chelsea", "Madrid", "Lyon",
    ),
    "person": (
        "Anna", "Tom", "my mother", "Florence", "Austin", "Jordan", "Mia", "Mr Carter", "my boss", "Chelsea", "Ben",
        "Aunt Rosa", "Samira", "Lee", "the landlord",
    ),
    "artist": (
        "Adele", "Miles Davis", "Abba", "Florence", "the Beatles", "Nina Simone", "Chicago", "Bob Dylan", "Madonna",
        "Daft Punk", "Johnny Cash", "Berlin",
    ),
    "song": (
        "Yesterday", "Hey Jude", "Blue Monday", "Tomorrow Never Knows", "Hurt", "Summertime", "Dancing Queen",
        "Purple Rain", "So What", "Message in a Bottle", "Money",
    ),
    "device": (
        "heating", "lights", "oven", "fan", "coffee machine", "TV", "dishwasher", "radio", "air conditioning",
        "floor lamp", "washing machine", "alarm system",
    ),
    "room": ("kitchen", "living room", "bedroom", "bathroom", "hall", "garage", "office"),
    "amount": (
        "20 pounds", "fifty euros", "$15", "100 dollars", "ten quid", "£7.50", "two hundred", "35 euros", "a tenner",
        "$250", "forty dollars",
    ),
    "people": ("two", "four", "six people", "3", "five of us", "eight", "me and Tom", "a party of ten"),
    "restaurant": (
        "Luigi's", "the Blue Door", "Chez Marie", "Nando's", "the Golden Lion", "Sakura", "Casa Verde", "Paris Grill",
        "the Red Fort", "Oslo Kitchen",
    ),
    "carrier": ("UPS", "DHL", "Royal Mail", "FedEx", "Amazon", "Hermes", "the post office"),
    "message": (
        "the table is booked for seven", "I am running late", "the parcel has arrived", "it is raining here",
        "dinner is ready", "I will send the money tomorrow", "the alarm did not go off", "the heating is off again",
        "we need more milk", "happy birthday", "the lights are still on", "I got up too late", "the concert was great",
        "they cancelled the table", "the package is at your place", "I have paid the bill", "it snows tomorrow",
        "you should turn off the lights", "the delivery is late", "we are four for dinner", "I can hear the radio",
        "you owe me some money", "I will be up early", "the fan is on", "he plays the piano tonight",
    ),
}  # fmt: skip

TEST_ONLY: dict[str, tuple[str, ...]] = {
    "time": ("twenty past five", "6:20", "a quarter past ten", "midnight", "11 pm", "half eight", "1:05"),
    "date": (
        "on Wednesday", "the day after tomorrow", "on the 21st", "next Saturday night", "on March 9", "on Thursday",
    ),
    "place": ("Geneva", "Victoria", "Sydney", "Cape Town", "Kyoto", "Boston", "the harbour"),
    "person": ("Victoria", "Sydney", "Dr Okafor", "Priya", "my sister", "Uncle Hans", "Carlos", "Georgia"),
    "artist": ("Boston", "Billie Holiday", "Radiohead", "Georgia", "the Rolling Stones", "Bach"),
    "song": ("Bohemian Rhapsody", "Friday I'm in Love", "Take Five", "Umbrella", "Wake Me Up"),
    "device": ("kettle", "humidifier", "garden sprinkler", "electric blanket", "toaster", "speakers"),
    "room": ("attic", "dining room", "cellar", "guest room"),
    "amount": ("75 dollars", "a hundred quid", "€12", "sixty pounds", "$1,200"),
    "people": ("seven", "nine people", "a group of twelve", "my parents and me"),
    "restaurant": ("Mamma Rosa", "the Harbour View", "Kyoto Garden", "Bistro Nine", "Taj Palace"),
    "carrier": ("DPD", "Evri", "Parcelforce", "the courier company"),
    "message": (
        "the restaurant is closed", "my flight is delayed", "the oven is broken", "they lost the order",
        "the weather is awful in Leeds", "I cannot pay before Friday", "somebody turned off the fan",
        "the music is too loud",
        "she should set an alarm",
    ),
}  # fmt: skip

OPENINGS = (
    "please", "hey", "can you hear me ,", "ok", "hi there ,", "um", "sorry ,", "listen ,", "oh and", "quick one :",
)  # fmt: skip

CLOSINGS = ("please", "thanks", "if you can", "when you get a chance", "thank you", "alright", "ok")

ASIDES = (
    "I just came back from {restaurant}",
    "it is cold in {place}",
    "the parcel from {carrier} is here at last",
    "I was listening to {artist}",
    "the alarm woke me at {time}",
    "I got {amount} from {person}",
    "{person} sent me a message",
    "the {device} in the {room} is fine",
    "we had dinner with {people} already",
    "I was asleep at {time}",
    "{person} paid for everything {date}",
    "the {device} makes me nervous",
    "they say it rains in {place}",
    "I am in the {room}",
    "{song} is stuck in my head",
    "I have spent {amount} already",
    "{restaurant} was full",
    "I moved to {place}",
    "{person} and I are friends again",
    "I hate my alarm clock",
    "the {carrier} driver woke us up",
    "I am busy {date}",
)

TEST_ASIDES = (
    "the man from {carrier} was rude",
    "I never got a text from {person}",
    "the {device} is quite new",
    "it has been storming in {place}",
    "I am tired of cooking",
    "my bank is closed {date}",
    "{artist} is on every station",
    "{restaurant} looks great",
    "I lost {amount} in the {room}",
    "the alarm was too loud",
)

CONTRACTIONS = (
    ("I am", "I'm"),
    ("I would", "I'd"),
    ("do not", "don't"),
    ("cannot", "can't"),
    ("what is", "what's"),
    ("where is", "where's"),
    ("it is", "it's"),
    ("we are", "we're"),
    ("will not", "won't"),
    ("is not", "isn't"),
)
