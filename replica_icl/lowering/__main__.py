import sys

from replica_icl.lowering.writing import main

sys.exit(main())
