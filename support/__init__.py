"""What reader.py, pix2pix.py and train.py are made with; nothing here imports them or reads a flag."""
