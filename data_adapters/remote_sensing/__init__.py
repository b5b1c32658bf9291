"""Remote sensing: RSVQA, captions of aerial scenes, DOTA, folders of scenes, own GeoTIFFs."""
