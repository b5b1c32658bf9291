"""Radiology: VQA-RAD, SLAKE, IU X-Ray, MIMIC-CXR, own DICOM files."""
