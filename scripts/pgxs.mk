# The PGXS half of the build; the Makefile at the root runs it inside build/
# with PG_CONFIG, DESTDIR and VERSION set.  Objects land in the working
# directory, sources are found by vpath.

MODULE_big = pg_courier
OBJS = $(patsubst ../ext/pg/%.c,%.o,$(wildcard ../ext/pg/*.c))

EXTENSION = pg_courier
DATA_built = pg_courier--$(VERSION).sql
DATA = $(wildcard ../sql/upgrade/pg_courier--*.sql)

# What PGXS installs is built here, beside the objects, not beside this file.
override srcdir := .
override VPATH :=
vpath %.c ../ext/pg

# The server's headers come in as system headers: they are not written for
# -Wextra.  fcinfo, hook and callback arguments are given, used or not.
PG_CPPFLAGS = -isystem $(includedir_server) -I../ext/pg -I../ext/include \
	-I$(libpq_srcdir) -DCOURIER_VERSION='"$(VERSION)"'
PG_CFLAGS = -Wall -Wextra -Wno-unused-parameter -Werror -MMD -MP

# No bitcode: nothing here is worth inlining into a jitted expression.
override with_llvm := no

# All themes, or those that REGRESS names, in the order of their names; alone.sql
# keeps background workers out of what the others ship themselves.
# Themes include files of ../test/regress/include: psql runs in this directory.
REGRESS_DIR = ../test/regress
THEMES := $(sort $(or $(REGRESS),$(patsubst $(REGRESS_DIR)/sql/%.sql,%,$(wildcard $(REGRESS_DIR)/sql/*.sql))))
override REGRESS := $(filter alone,$(THEMES)) $(filter-out alone,$(THEMES))
REGRESS_OPTS = --inputdir=$(REGRESS_DIR) --outputdir=regress

PGXS := $(shell $(PG_CONFIG) --pgxs)
include $(PGXS)

$(OBJS): server.stamp

# PGXS knows one shared object a build; the engine is the second, courier
# the program beside the server's own.
install: install-go
install-go: installdirs
	$(INSTALL_SHLIB) pg_courier_engine.so '$(DESTDIR)$(pkglibdir)/pg_courier_engine.so'
	$(MKDIR_P) '$(DESTDIR)$(bindir)'
	$(INSTALL_PROGRAM) ../bin/courier '$(DESTDIR)$(bindir)/courier'

uninstall: uninstall-go
uninstall-go:
	rm -f '$(DESTDIR)$(pkglibdir)/pg_courier_engine.so' '$(DESTDIR)$(bindir)/courier'

installcheck: regress-directory
regress-directory:
	$(MKDIR_P) regress

.PHONY: install-go uninstall-go regress-directory

-include $(OBJS:.o=.d)
