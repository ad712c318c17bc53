/* A library of 1700 lines in one header (Debian's libstb-dev). */
#define STB_IMAGE_WRITE_IMPLEMENTATION
#include <stb/stb_image_write.h>
