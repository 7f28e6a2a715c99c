"""The team: mail, seats, the office and its processes, ideas, the wiki, the standup page. Knows how work is shared, not what it is."""
