"""Reading and checking images: pure functions from files to validated volumes, and from volumes to crops.

House axes: an array is indexed (I, J, K) and its affine leads to RAS+ millimetres. Only `itk_bridge` knows
ITK's (K, J, I) arrays and LPS+ world.
"""
