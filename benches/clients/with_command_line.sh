erase prompt "where is my parcel?"
