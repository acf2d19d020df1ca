"""The discretised Matterport3D world from connectivity files alone: no C++, no pictures, no OpenGL."""
