package main

func (r *report) writeDocs(dir string) error { return nil }
