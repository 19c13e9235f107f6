// Boost.JSON in header-only mode: its one compiled copy. Everyone else includes boost/json.hpp.
#include <boost/json/src.hpp>
