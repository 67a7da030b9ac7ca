// Keys in the order of their insertion, with the k-th oldest at hand.
#ifndef ACME_HIEROS_REPLAY_NATIVE_TIME_ORDER_H_
#define ACME_HIEROS_REPLAY_NATIVE_TIME_ORDER_H_

#include <cstddef>
#include <cstdint>
#include <unordered_map>
#include <vector>

namespace acme_hieros {

// While only the oldest and the newest keys leave, the living ones are a
// contiguous range of `slots_` and everything is O(1). A key that leaves from
// between makes a hole; as long as there are holes, a Fenwick tree counts the
// living slots and rank lookup costs O(log n). Dead slots are swept out, and
// with them the holes, once they outnumber the living: amortised O(1).
class TimeOrder {
 public:
  using Key = uint64_t;

  size_t size() const { return position_.size(); }
  bool Contains(Key key) const { return position_.count(key) != 0; }

  // Adds the newest key. False if it is there already.
  bool Append(Key key) {
    if (!position_.emplace(key, first_position_ + slots_.size()).second) {
      return false;
    }
    slots_.push_back(key);
    if (has_holes()) AppendToTree();
    return true;
  }

  // False if there is no such key.
  bool Remove(Key key) {
    const auto found = position_.find(key);
    if (found == position_.end()) return false;
    const size_t slot = found->second - first_position_;
    position_.erase(found);
    if (has_holes()) {
      AddToTree(slot, -1);
    } else if (slot == begin_) {
      ++begin_;
    } else if (slot + 1 == slots_.size()) {
      slots_.pop_back();
    } else {
      BuildTree();
      AddToTree(slot, -1);
    }
    const size_t dead = slots_.size() - size();
    if (dead > size() + kSlack) Sweep();
    return true;
  }

  // The key of this rank, below size(); the oldest has rank 0.
  Key At(size_t rank) const {
    return slots_[has_holes() ? FindInTree(rank) : begin_ + rank];
  }

  void Clear() { *this = TimeOrder(); }

 private:
  // Dead slots that are not worth a sweep.
  static constexpr size_t kSlack = 1024;

  bool has_holes() const { return !tree_.empty(); }

  static size_t LowestBit(size_t i) { return i & (~i + 1); }

  // tree_[i], for i from 1, counts the living among the LowestBit(i) slots that
  // end with slot i - 1.
  void BuildTree() {
    tree_.assign(slots_.size() + 1, 0);
    for (size_t i = 1; i < tree_.size(); ++i) {
      tree_[i] += i > begin_ ? 1 : 0;
      const size_t parent = i + LowestBit(i);
      if (parent < tree_.size()) tree_[parent] += tree_[i];
    }
  }

  void AppendToTree() {
    const size_t i = tree_.size();
    size_t living = 1;
    for (size_t step = 1; step < LowestBit(i); step *= 2) {
      living += tree_[i - step];
    }
    tree_.push_back(living);
  }

  void AddToTree(size_t slot, int change) {
    for (size_t i = slot + 1; i < tree_.size(); i += LowestBit(i)) {
      tree_[i] += change;
    }
  }

  // The slot before which exactly `rank` living ones lie, itself alive.
  size_t FindInTree(size_t rank) const {
    size_t step = 1;
    while (2 * step < tree_.size()) step *= 2;
    size_t slot = 0;
    for (; step > 0; step /= 2) {
      if (slot + step < tree_.size() && tree_[slot + step] <= rank) {
        slot += step;
        rank -= tree_[slot];
      }
    }
    return slot;
  }

  void Sweep() {
    std::vector<Key> living;
    living.reserve(2 * size());
    if (has_holes()) {
      for (size_t slot = 0; slot < slots_.size(); ++slot) {
        // A key may have left and come back: only its last slot is alive.
        const auto found = position_.find(slots_[slot]);
        if (found == position_.end()) continue;
        if (found->second != first_position_ + slot) continue;
        found->second = first_position_ + living.size();
        living.push_back(slots_[slot]);
      }
    } else {
      living.assign(slots_.begin() + begin_, slots_.end());
      first_position_ += begin_;
    }
    slots_.swap(living);
    tree_.clear();
    begin_ = 0;
  }

  std::vector<Key> slots_;
  std::vector<size_t> tree_;  // Empty without holes.
  size_t begin_ = 0;          // The oldest slot; not kept with holes.
  // Slot of every living key, plus `first_position_`, which lets a sweep
  // without holes leave the map as it is.
  std::unordered_map<Key, uint64_t> position_;
  uint64_t first_position_ = 0;
};

}  // namespace acme_hieros

#endif  // ACME_HIEROS_REPLAY_NATIVE_TIME_ORDER_H_
