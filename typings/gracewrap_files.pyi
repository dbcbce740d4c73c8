# Made for the single file (launcher/single_file/freeze.py): what the package ships beside modules.
FILES: dict[str, bytes]
