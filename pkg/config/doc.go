// Package config reads the settings of the sidecar. It is imported by the
// commands in sidecar/ and by nothing else: what a package needs of them it is
// given.
//
// A setting has one name. In the file it is written name, as a flag --name and
// in the environment COURIER_NAME, the letters changed as usual there. Of the
// places where it may be given the first wins, whole: flags, environment, file,
// default. Lists are not merged: a --database hides those of the file.
//
// Everything is checked before anything is used. An *Error names the place (the
// flag, the variable, or file, line and key) and never the content of a
// connection string, which may hold a password.
package config
