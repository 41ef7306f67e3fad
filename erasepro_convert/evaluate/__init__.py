"""How erasure is judged on pictures: distances between sets, rates and means with intervals."""
