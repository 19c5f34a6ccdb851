"""The table: a dexterous hand, one object, a tray or a mark, in MuJoCo, without meshes and without OpenGL."""
