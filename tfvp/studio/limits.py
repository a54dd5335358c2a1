"""How much a page may ask for, so that one user's request leaves room for the others."""

UPLOAD_BYTES = 64 * 2**20  # of a file
UPLOAD_SECONDS = 120  # of a video; what follows is not read
UPLOAD_FRAMES = 3600  # as a model takes them; what follows is not read
UPLOAD_PIXELS = 4096 * 4096  # of a frame in the file
CLIP_BYTES = 192 * 2**20  # of an upload's frames as a model takes them
DECODING_SECONDS = 60  # that decoding an upload may take
UPLOADS = 6  # that a session keeps; an older one leaves
HORIZON = 300
FUTURES = 16
OBSERVED_BYTES = 64 * 2**20  # of the observed frames of all futures, of which a model makes features many times larger
RESULT_BYTES = 256 * 2**20  # of all frames of one prediction
KEPT = 6  # predictions that a session keeps; an older one leaves
KEPT_BYTES = 2**30  # of the frames of all predictions that are kept
WAITING = 4  # predictions that a session may have unfinished
QUEUE = 32  # predictions that may be unfinished in all
SESSIONS = 256
IDLE_SECONDS = 30 * 60  # after which a session's files and predictions are deleted
MODELS = 3  # that stay loaded
DRAWN_FRAMES = HORIZON + 60  # of a clip that is drawn anew
