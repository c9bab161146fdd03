"""From video files to features: decoding, optical flow, I3D, and the folder that all else reads."""
