// The Python module `acme_hieros.replay._native`: ETBS as a Reverb selector.
//
// pybind11 shares its registry of types between all modules whose compilers and
// pybind11 versions match. This one joins the registry of dm-reverb's own
// module, which therefore takes an `EtbsSelector` for an `ItemSelector`.
// ../etbs.py is the public face and decides whether this may be loaded at all.

#include <pybind11/numpy.h>
#include <pybind11/pybind11.h>

#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <stdexcept>
#include <string>
#include <string_view>
#include <typeinfo>

#include "reverb_interfaces.h"
#include "sampler.h"
#include "time_order.h"

namespace py = pybind11;

// ../etbs.py looks for this name, which comes of compiler, flags and pybind11.
static_assert(std::string_view(PYBIND11_INTERNALS_ID) ==
                  "__pybind11_internals_v3_gcc_libstdcpp_cxxabi1011__",
              "This is not the C++ ABI that dm-reverb 0.7.3 was built with.");

namespace acme_hieros {
namespace {

using deepmind::reverb::ExtensionItem;
using deepmind::reverb::ItemSelector;
using deepmind::reverb::Table;
using deepmind::reverb::TableExtension;
using Key = ItemSelector::Key;

// Room for a Status that nobody destroys; its real size is that of a pointer.
// One that says OK owns nothing.
union KeptStatus {
  KeptStatus() { std::memset(bytes, 0, sizeof(bytes)); }
  ~KeptStatus() {}
  unsigned char bytes[64];
  Status status;
};

// Where all results come from: a selector of Reverb's own that holds one key.
// None of these calls changes it, so that any thread may make them.
class Results {
 public:
  static void Initialise(std::shared_ptr<ItemSelector> uniform) {
    KeptStatus kept;
    new (&kept.status) Status(uniform->Insert(kKey, 1.0));
    // Never destroyed: tables may outlive the interpreter's modules.
    uniform_ = new std::shared_ptr<ItemSelector>(std::move(uniform));
  }

  static bool initialised() { return uniform_ != nullptr; }

  static Status Ok() { return uniform().Update(kKey, 1.0); }
  // "Key 123 not found."
  static Status NotFound(Key key) {
    return uniform().Update(key == kKey ? key + 1 : key, 1.0);
  }
  static Status AlreadyThere() { return uniform().Insert(kKey, 1.0); }
  static ItemSelector& uniform() { return **uniform_; }

 private:
  static constexpr Key kKey = 0x6574627365746273;
  static std::shared_ptr<ItemSelector>* uniform_;
};

std::shared_ptr<ItemSelector>* Results::uniform_ = nullptr;

// Reverb calls it under the table's mutex.
class EtbsSelector : public ItemSelector,
                     public std::enable_shared_from_this<EtbsSelector> {
 public:
  EtbsSelector(double temperature, uint64_t seed)
      : temperature_(temperature), seed_(seed), sampler_(temperature, seed) {}

  Status Delete(Key key) override {
    return sampler_.order().Remove(key) ? Results::Ok()
                                        : Results::NotFound(key);
  }

  Status Insert(Key key, double) override {
    return sampler_.order().Append(key) ? Results::Ok()
                                        : Results::AlreadyThere();
  }

  Status Update(Key key, double) override {
    return sampler_.order().Contains(key) ? Results::Ok()
                                          : Results::NotFound(key);
  }

  KeyWithProbability Sample() override {
    if (sampler_.order().size() == 0) {
      // As Reverb's own selectors do: a table never asks for this.
      std::fputs("ETBS was asked to draw from no items.\n", stderr);
      std::abort();
    }
    const auto draw = sampler_.Sample();
    return {draw.key, draw.probability};
  }

  void Clear() override { sampler_.order().Clear(); }

  // A checkpoint takes the sampler for a Uniform; see KeepSampler.
  KeyDistributionOptions options() const override {
    return Results::uniform().options();
  }

  std::string DebugString() const override {
    char text[64];
    std::snprintf(text, sizeof(text), "EtbsSelector(temperature=%g)",
                  temperature_);
    return text;
  }

  // Whether somebody beside the Python object holds it.
  bool in_table() const { return weak_from_this().use_count() > 1; }
  double temperature() const { return temperature_; }
  uint64_t seed() const { return seed_; }

 private:
  const double temperature_;
  const uint64_t seed_;
  TimeBalancedSampler sampler_;
};

// Puts ETBS back into a table that Reverb rebuilds from a checkpoint.
//
// Reverb then makes the selectors anew from their `options()`, hands the
// extensions of the table that was to the table that will be, registers them,
// and fills the table in the old order of insertion. Registering is the moment
// to exchange the sampler: it is empty still and no thread uses it.
class KeepSampler : public TableExtension {
 public:
  explicit KeepSampler(const EtbsSelector& selector)
      : selector_(&selector),
        temperature_(selector.temperature()),
        seed_(selector.seed()) {}

  bool CanRunAsync() const override { return false; }
  std::string DebugString() const override { return "KeepSampler"; }

  // Whether the first table held its sampler where one is expected.
  bool works() const { return works_; }

 protected:
  void OnInsert(absl::Mutex*, const ExtensionItem&) override {}
  void OnDelete(absl::Mutex*, const ExtensionItem&) override {}
  void OnUpdate(absl::Mutex*, const ExtensionItem&) override {}
  void OnSample(absl::Mutex*, const ExtensionItem&) override {}
  void OnReset(absl::Mutex*) override {}
  void UnregisterTable(absl::Mutex*, Table*) override {}

  Status RegisterTable(absl::Mutex* mutex, Table* table) override {
    // class Table { absl::Mutex mu_; std::shared_ptr<ItemSelector> sampler_;
    auto* sampler = reinterpret_cast<std::shared_ptr<ItemSelector>*>(
        reinterpret_cast<char*>(mutex) + sizeof(void*));
    if (selector_ != nullptr) {
      // The table that was made with our selector shows where it keeps it.
      works_ = static_cast<void*>(mutex) == static_cast<void*>(table) &&
               *reinterpret_cast<void* const*>(sampler) == selector_;
      selector_ = nullptr;
    } else if (works_) {
      // The draws that are to come must not be those of the beginning again.
      seed_ += 0x9e3779b97f4a7c15;
      *sampler = std::make_shared<EtbsSelector>(temperature_, seed_);
    }
    return Results::Ok();
  }

 private:
  const EtbsSelector* selector_;  // Null once the first table is registered.
  const double temperature_;
  uint64_t seed_;
  bool works_ = false;
};

// Calls what the declaration here says that one of Reverb's own selectors has.
// Says what is wrong, or nothing.
std::string CheckInterface(ItemSelector& uniform, const std::string& repr) {
  if (std::strcmp(typeid(uniform).name(),
                  "N8deepmind6reverb15UniformSelectorE") != 0) {
    return std::string("a Uniform is a ") + typeid(uniform).name();
  }
  if (uniform.DebugString() != repr) return "DebugString is another function";
  KeptStatus inserted, updated, deleted;
  new (&inserted.status) Status(uniform.Insert(42, 1.0));
  new (&updated.status) Status(uniform.Update(42, 1.0));
  const auto draw = uniform.Sample();
  new (&deleted.status) Status(uniform.Delete(42));
  if (std::memcmp(&inserted, &updated, sizeof(KeptStatus)) != 0 ||
      std::memcmp(&inserted, &deleted, sizeof(KeptStatus)) != 0) {
    return "a result that says OK is not always the same";
  }
  if (draw.key != 42 || draw.probability != 1.0) {
    return "Sample is another function";
  }
  uniform.Clear();
  return "";
}

// The Python class that turns itself into a selector, and Reverb's idea of it.
PyObject* etbs_class = nullptr;

PyObject* ToSelector(PyObject* source, PyTypeObject*) {
  if (PyObject_IsInstance(source, etbs_class) != 1) {
    PyErr_Clear();
    return nullptr;
  }
  PyObject* selector =
      PyObject_CallMethod(source, "build_selector", nullptr);
  if (selector == nullptr) throw py::error_already_set();
  return selector;
}

void ConvertToSelector(py::object python_class) {
  const bool registered = etbs_class != nullptr;
  etbs_class = python_class.release().ptr();
  if (!registered) {
    py::detail::get_type_info(typeid(ItemSelector), true)
        ->implicit_conversions.push_back(ToSelector);
  }
}

// Nanoseconds of one insertion, one draw, and one insertion with the removal of
// the oldest, of any selector, with n keys in it.
py::tuple TimeSelector(const std::shared_ptr<ItemSelector>& selector, size_t n,
                       size_t draws) {
  if (n == 0 || draws == 0) {
    throw py::value_error("n and draws must be at least 1.");
  }
  using Clock = std::chrono::steady_clock;
  const auto nanoseconds = [](Clock::duration time, size_t calls) {
    return std::chrono::duration<double, std::nano>(time).count() / calls;
  };
  // Reverb's keys are random, too.
  const auto key = [](size_t i) { return (i + 1) * 0x9e3779b97f4a7c15; };
  KeptStatus kept;
  const auto begin = Clock::now();
  for (size_t i = 0; i < n; ++i) {
    new (&kept.status) Status(selector->Insert(key(i), 1.0));
  }
  const auto filled = Clock::now();
  for (size_t i = 0; i < draws; ++i) selector->Sample();
  const auto drawn = Clock::now();
  for (size_t i = 0; i < n; ++i) {
    new (&kept.status) Status(selector->Insert(key(n + i), 1.0));
    new (&kept.status) Status(selector->Delete(key(i)));
  }
  const auto end = Clock::now();
  selector->Clear();
  return py::make_tuple(nanoseconds(filled - begin, n),
                        nanoseconds(drawn - filled, draws),
                        nanoseconds(end - drawn, n));
}

py::tuple DrawMany(TimeBalancedSampler& sampler, size_t count) {
  if (sampler.order().size() == 0) throw py::value_error("There are no keys.");
  py::array_t<uint64_t> keys(count);
  py::array_t<double> probabilities(count);
  for (size_t i = 0; i < count; ++i) {
    const auto draw = sampler.Sample();
    keys.mutable_at(i) = draw.key;
    probabilities.mutable_at(i) = draw.probability;
  }
  return py::make_tuple(keys, probabilities);
}

}  // namespace

PYBIND11_MODULE(_native, m) {
  // Reverb's types must be there: ours derive from them.
  py::module::import("reverb");

  py::class_<EtbsSelector, ItemSelector, std::shared_ptr<EtbsSelector>>(
      m, "EtbsSelector")
      .def(py::init([](double temperature, uint64_t seed) {
             if (!Results::initialised()) {
               throw std::runtime_error("Import acme_hieros.replay.etbs first.");
             }
             return std::make_shared<EtbsSelector>(temperature, seed);
           }),
           py::arg("temperature"), py::arg("seed"))
      .def_property_readonly("in_table", &EtbsSelector::in_table);

  py::class_<KeepSampler, TableExtension, std::shared_ptr<KeepSampler>>(
      m, "KeepSampler")
      .def(py::init<const EtbsSelector&>(), py::arg("selector"))
      .def_property_readonly("works", &KeepSampler::works);

  // What a selector is made of, for use without Reverb.
  py::class_<TimeBalancedSampler>(m, "Sampler")
      .def(py::init<double, uint64_t>(), py::arg("temperature"),
           py::arg("seed"))
      .def("append",
           [](TimeBalancedSampler& s, Key key) { return s.order().Append(key); })
      .def("remove",
           [](TimeBalancedSampler& s, Key key) { return s.order().Remove(key); })
      .def("clear", [](TimeBalancedSampler& s) { s.order().Clear(); })
      .def("__contains__",
           [](const TimeBalancedSampler& s, Key key) {
             return s.order().Contains(key);
           })
      .def("__len__",
           [](const TimeBalancedSampler& s) { return s.order().size(); })
      .def("__getitem__",
           [](const TimeBalancedSampler& s, size_t rank) {
             if (rank >= s.order().size()) throw py::index_error();
             return s.order().At(rank);
           })
      .def("draw", &DrawMany, py::arg("count"));

  m.def(
      "check_interface",
      [](const std::shared_ptr<ItemSelector>& uniform,
         const std::string& repr) { return CheckInterface(*uniform, repr); },
      py::arg("uniform").none(false), py::arg("repr"));
  m.def(
      "initialise",
      [](std::shared_ptr<ItemSelector> uniform, py::object etbs) {
        Results::Initialise(std::move(uniform));
        ConvertToSelector(std::move(etbs));
      },
      py::arg("uniform").none(false), py::arg("etbs"));
  m.def("time_selector", &TimeSelector, py::arg("selector").none(false),
        py::arg("n"), py::arg("draws"));
}

}  // namespace acme_hieros
