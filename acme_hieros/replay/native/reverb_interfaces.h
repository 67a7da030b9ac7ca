// The two interfaces of Reverb that the extension implements, declared anew.
//
// dm-reverb ships no headers. Its Python bindings accept any C++ object whose
// type has the name and the virtual table of `deepmind::reverb::ItemSelector`
// (reverb/cc/selectors/interface.h) and of `deepmind::reverb::TableExtension`
// (reverb/cc/table_extensions/interface.h), as of Reverb 0.7.
//
// Two return types, absl::Status and a protocol buffer, are known by nothing
// but this: a class that is not trivially copyable is returned through a
// pointer that the caller hands in. C++17 guarantees that `return other->F()`
// passes that pointer on, so a result can be forwarded, whatever it is.
#ifndef ACME_HIEROS_REPLAY_NATIVE_REVERB_INTERFACES_H_
#define ACME_HIEROS_REPLAY_NATIVE_REVERB_INTERFACES_H_

#include <cstdint>
#include <string>

#if !defined(__GLIBCXX__) || _GLIBCXX_USE_CXX11_ABI
#error "dm-reverb 0.7 is built with libstdc++ and its old std::string."
#endif
#if __cplusplus < 201703L
#error "Forwarding a result of unknown layout needs C++17."
#endif

namespace absl {
class Mutex;
}  // namespace absl

namespace acme_hieros {

// A result that can only be forwarded: nothing defines its copy constructor or
// its destructor, so that to keep or drop one does not link.
template <int tag>
class Forwarded {
 public:
  Forwarded(const Forwarded&);
  ~Forwarded();
};

using Status = Forwarded<0>;
using KeyDistributionOptions = Forwarded<1>;

}  // namespace acme_hieros

namespace deepmind {
namespace reverb {

class Table;
struct ExtensionItem;

class ItemSelector {
 public:
  using Key = uint64_t;
  struct KeyWithProbability {
    Key key;
    double probability;
  };

  virtual ~ItemSelector() = default;
  virtual acme_hieros::Status Delete(Key key) = 0;
  virtual acme_hieros::Status Insert(Key key, double priority) = 0;
  virtual acme_hieros::Status Update(Key key, double priority) = 0;
  virtual KeyWithProbability Sample() = 0;
  virtual void Clear() = 0;
  virtual acme_hieros::KeyDistributionOptions options() const = 0;
  virtual std::string DebugString() const = 0;
};

class TableExtension {
 public:
  virtual ~TableExtension() = default;
  virtual bool CanRunAsync() const = 0;
  virtual std::string DebugString() const = 0;

 protected:
  // The first argument is the table's mutex, which is held during the call.
  virtual void OnInsert(absl::Mutex* mutex, const ExtensionItem& item) = 0;
  virtual void OnDelete(absl::Mutex* mutex, const ExtensionItem& item) = 0;
  virtual void OnUpdate(absl::Mutex* mutex, const ExtensionItem& item) = 0;
  virtual void OnSample(absl::Mutex* mutex, const ExtensionItem& item) = 0;
  virtual void OnReset(absl::Mutex* mutex) = 0;
  virtual acme_hieros::Status RegisterTable(absl::Mutex* mutex,
                                            Table* table) = 0;
  virtual void UnregisterTable(absl::Mutex* mutex, Table* table) = 0;
};

}  // namespace reverb
}  // namespace deepmind

#endif  // ACME_HIEROS_REPLAY_NATIVE_REVERB_INTERFACES_H_
